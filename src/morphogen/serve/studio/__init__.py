"""The pages for people, below `/`: what `app.py` includes beside `routes/`."""
