// Loaded before Azurite: its stdin is a pipe from the process that started it, so it can never outlive that process.
process.stdin.on("end", () => process.exit()).resume();
