"""Tests of compressed Gaussians."""
