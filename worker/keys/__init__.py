"""Who results are sealed to, and the record of the keys in use."""
