"""Other gateways' configurations, turned into mesh.yaml. Everything here is pure: values in, values out."""

from .notes import Migration, Note, Notes

__all__ = ["Migration", "Note", "Notes"]
