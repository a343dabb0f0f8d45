from hypothesis import settings

settings.register_profile("project", deadline=None, derandomize=True)  # the same examples everywhere; time is no verdict
settings.load_profile("project")
