"""The quality of extraction: the project's own labelled documents, and the findings in them."""
