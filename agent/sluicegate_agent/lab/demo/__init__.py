"""The demo's acts: in the first backends and the agent die, in the second backends differ, slow down and fail."""
