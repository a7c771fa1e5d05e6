"""A small web app that enqueues missions and shows how they stand."""
