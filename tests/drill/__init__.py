"""The alarm drill: a real cause for each alert, and the notifications that reach the receiver."""
