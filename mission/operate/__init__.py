"""Actions of people on missions: read results, handle dead letters, cancel, erase, repair, re-seal."""
