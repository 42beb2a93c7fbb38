"""The torch code that rooms share: importer, executor, quantisers, deformable convolution. Nothing else imports torch."""
