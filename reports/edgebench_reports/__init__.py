"""EdgeBench's pages: leaderboards made of checked bundles, with torch nowhere in sight."""
