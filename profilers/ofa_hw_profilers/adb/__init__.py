"""TFLite on a device over ADB: phones, and Linux boards that run adbd."""
