"""From a URL to a document: the policy, the guard at the socket, HTTP with bounds."""
