"""HTTP/1.1 connections: strict checks of heads, and time limits for slow clients."""
