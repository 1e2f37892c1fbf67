"""The one place where everything meets: settings become services, services become an app."""
