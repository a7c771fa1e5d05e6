"""The pieces that `decoder run` and `decoder up` start on this machine."""
