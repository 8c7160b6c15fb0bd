"""The one place where the version is spelt."""

VERSION = "0.2.0"
