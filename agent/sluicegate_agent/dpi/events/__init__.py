"""Events: from what the engine found to lines of EVE JSON, and where the lines go."""
