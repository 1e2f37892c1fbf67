"""Journeys: async, ordered steps over ports; they name neither a vendor nor HTTP."""
