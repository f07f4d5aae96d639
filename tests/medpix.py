"""An archive in the layout of MedPix 2.0: pictures and texts made up."""

import json

import numpy as np
from PIL import Image

REGIONS = ("Head", "Thorax")


def archive(folder, *, train=8, dev=4, images=3):
    """Write cases of two regions and modalities, ``images`` pictures each."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    described, cases, splits = [], [], []
    for number in range(train + dev):
        name, region, kind = f"MPX{number:04}", number % 2, ("CT", "MR")[number // 2 % 2]
        for shown in range(images):
            image = f"{name}_synpic{shown}"
            pixels = rng.integers(0, 256, (20, 16 + 4 * region), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{image}.png")
            caption = f"A mass on the left of case {number}." if shown < 2 else "  Axial view. "
            about = {"Caption": caption, "Modality": f"{kind} - plain ", "Plane": "Axial"}
            about |= {"Age": "40", "Sex": "male"}
            place = {"Location": f"Organ {region}", "Location Category": REGIONS[region]}
            described.append(
                {"Type": kind, "U_id": name, "image": image, "Description": about, **place}
            )
        case = {"Title": "SECRET TITLE", "History": "SECRET HISTORY", "Findings": f"No. {number}."}
        topic = {"Category": "Trauma"} if number % 3 else {}
        cases.append({"U_id": name, "Case": case, "Topic": topic})
        splits.append([name, "train" if number < train else "dev"])
    for file, content in (("descriptions", described), ("cases", cases), ("splits", splits)):
        (folder / f"{file}.json").write_text(json.dumps(content))
    return folder
