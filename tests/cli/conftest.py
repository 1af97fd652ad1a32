"""A real daemon for the tests of one file, and the command line beside it."""

from tests.client.conftest import daemon as daemon
