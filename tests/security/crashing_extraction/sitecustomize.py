"""With this on a worker's PYTHONPATH, its extraction process reads its document and crashes."""

from worker.extract import apart

apart.PROGRAM = """
import os, sys
sys.stdin.buffer.readline()
os.write(1, b"ready\\n")
sys.stdin.buffer.read1()
os.abort()
"""
