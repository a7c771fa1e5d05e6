"""The chart on a real cluster: whichever KUBECONFIG names."""
