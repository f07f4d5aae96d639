"""The smallest pretraining that does everything a large one does."""


def voco(store, out, *, width=4, **sections):
    """Return its settings; ``sections`` are set as they are given."""
    return {
        "store": str(store),
        "out": str(out),
        "method": {
            "name": "voco",
            "views": {"grid": [2, 2, 1], "crop_voxels": 8, "random_crops": 2},
            "hidden_dim": 16,
            "projection_dim": 16,
        },
        "encoder": {"name": "segresnet", "width": width, "blocks": [1, 1]},
        "loader": {"volumes_per_batch": 2, "workers": 0, "validation_batches": 2},
        "tracking": {"enabled": False},
        **sections,
    }
