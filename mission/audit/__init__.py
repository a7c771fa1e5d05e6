"""Who did what, when and why: a chain of entries in Redis, each recorded before the thing is done."""
