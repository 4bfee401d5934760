"""An extension for AUTOMATIC1111's web UI and Forge: copy or link this folder into `extensions`. See docs/others.md."""
