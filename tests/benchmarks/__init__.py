"""Is Barge as fast as it was?"""
