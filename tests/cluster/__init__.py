"""The chart on a real cluster: the one in KUBECONFIG."""
