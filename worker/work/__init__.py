"""What happens to a claimed mission, and who brings back what is stuck."""
