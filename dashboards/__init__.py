"""The dashboard: shows what the simulator computes, in a browser. Computes nothing itself."""
