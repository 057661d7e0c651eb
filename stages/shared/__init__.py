"""What every command needs: arguments and error lines, files, settings."""
