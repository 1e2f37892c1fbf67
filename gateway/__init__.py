"""An OpenAI-compatible gateway that gives any existing chatbot persistent memory."""

__version__ = "0.1.0"
