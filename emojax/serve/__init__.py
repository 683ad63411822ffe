"""`emojax serve`: a trained model behind HTTP, with a page for trying it.

The way of a picture: gate (who asks) → admission (is there room) → uploads (bytes, counted) → engine (decode, in a few
threads) → batching (one thread for the device) → answers (JSON). Everything here needs the extra `[serve]`.
"""
