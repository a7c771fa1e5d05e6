"""Fetching: from a URL to a document, with the URL policy, the address guard at the socket, and bounded HTTP."""
