"""The programs in these folders are run, never imported: most of them hang."""

from __future__ import annotations

collect_ignore = ["hangs", "harmless", "recorded"]
