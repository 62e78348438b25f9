"""A real Android adbd on loopback: the device that the tests of the ADB backend run on."""
