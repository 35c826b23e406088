"""Images from a stacker file: layers that name a base, files to import and a script to run."""
