"""From signals, counters and operators to what the tables are made from: weights, holds and downs."""
