"""What people do with missions that have ended: read results, look after dead letters, erase, seal anew."""
