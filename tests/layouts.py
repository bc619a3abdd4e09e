"""The folders of real competitions as a table: see drawing.Layout for its words."""

import json
from itertools import combinations
from typing import Any

from drawing import Drawn, Layout

LETTERS = "abcdefghijkl"
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SEEDLINGS = [
    "Black-grass", "Charlock", "Cleavers", "Common Chickweed", "Common wheat", "Fat Hen",
    "Loose Silky-bent", "Maize", "Scentless Mayweed", "Shepherds Purse", "Small-flowered Cranesbill",
    "Sugar beet",
]  # fmt: skip
CATHETERS = [
    "ETT - Abnormal", "ETT - Borderline", "ETT - Normal", "NGT - Abnormal", "NGT - Borderline",
    "NGT - Incompletely Imaged", "NGT - Normal", "CVC - Abnormal", "CVC - Borderline",
    "CVC - Normal", "Swan Ganz Catheter Present",
]  # fmt: skip
TWO = ["0", "1"]
FIVE = list("01234")
PROTEINS = ["0", "2", "7", "16", "21", "25"]
BREEDS = [f"{a}-coated_{b}_hound" for a in LETTERS for b in LETTERS[:10]]
SPECIES = [f"{a.upper()}uercus_{b}ubra" for a in LETTERS for b in LETTERS][:99]
LEAF = "margin[1-64]=random, shape[1-64]=random, texture[1-64]=random"
PETS = (
    "Subject Focus=?0|1, Eyes=?0|1, Face=?0|1, Near=?0|1, Action=?0|1, Accessory=?0|1, "
    "Group=?0|1, Collage=?0|1, Human=?0|1, Occlusion=?0|1, Info=?0|1, Blur=?0|1"
)
SKIN = "image_name=id, patient_id=patient, sex=?male|female|, age_approx=?45.0|50.0|, anatom_site_general_challenge=?torso|head/neck|"
BREAST = "site_id=1, patient_id=patient, image_id=image, laterality=side, view=part, age=60.0"


def _coco_train(drawn: Drawn) -> Any:
    ids = [(int(row.fields["id"]), row) for row in drawn.train]
    return {
        "images": [{"id": i, "file_name": row.images[""]["path"]} for i, row in ids],
        "annotations": [
            {"id": n, "image_id": i, "category_id": int(row.fields["label"])}
            for n, (i, row) in enumerate(ids)
        ],
        "categories": [{"id": int(name)} for name in drawn.layout.classes],
    }


def _coco_test(drawn: Drawn) -> Any:
    rows = drawn.test
    return {
        "images": [{"id": int(r.fields["id"]), "file_name": r.images[""]["path"]} for r in rows]
    }


TAGS = ["agriculture", "clear", "cultivation", "habitation", "haze", "primary", "road", "water"]
GALAXIES = [
    f"Class{question}.{answer}"
    for question, answers in enumerate([3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6], start=1)
    for answer in range(1, answers + 1)
]
FISH = ["ALB", "BET", "DOL", "LAG", "NoF", "OTHER", "SHARK", "YFT"]

# A bar of 0.6 is loose: of about a hundred classes with two images each, chance is right in 1 of 100.
CLASSES = {
    "aerial-cactus-identification": Layout(
        "roc_auc", 1.0, "{h32}.jpg", "train/{id}", "test/{id}", classes=TWO,
        tables={"train.csv": "id=id, has_cactus=label",
                "sample_submission.csv": "id=id, has_cactus=0.5"},
        packed={"train.zip": "train/", "test.zip": "test/"},
    ),
    "aptos2019-blindness-detection": Layout(
        "quadratic_kappa", 1.0, "{h12}", "train_images/{id}.png", "test_images/{id}.png",
        classes=FIVE,
        tables={"train.csv": "id_code=id, diagnosis=label", "test.csv": "id_code=id",
                "sample_submission.csv": "id_code=id, diagnosis=0"},
    ),
    "cassava-leaf-disease-classification": Layout(
        "accuracy", 1.0, "{d9}.jpg", "train_images/{id}", "test_images/{id}", classes=FIVE,
        tables={"train.csv": "image_id=id, label=label",
                "sample_submission.csv": "image_id=id, label=4"},
        others={"label_num_to_disease_map.json": json.dumps(
                    dict(zip(FIVE, ["CBB", "CBSD", "CGM", "CMD", "Healthy"], strict=True))).encode(),
                "train_tfrecords/ld_train00-1338.tfrec": bytes(64),
                "test_tfrecords/ld_test00-1338.tfrec": bytes(64)},
    ),
    "histopathologic-cancer-detection": Layout(
        "roc_auc", 1.0, "{h40}", "train/{id}.tif", "test/{id}.tif", classes=TWO,
        tables={"train_labels.csv": "id=id, label=label", "sample_submission.csv": "id=id, label=0"},
    ),
    "paddy-disease-classification": Layout(
        "accuracy", 1.0, "1{d5}.jpg", "train_images/{label}/{id}", "test_images/{id}",
        classes=["blast", "brown_spot", "dead_heart", "hispa", "normal", "tungro"],
        tables={"train.csv": "image_id=id, label=label, variety=?ADT45|Ponni, age=?45|60|70",
                "sample_submission.csv": "image_id=id, label="},
        packed={"train_images.zip": "train_images/", "test_images.zip": "test_images/"},
    ),
    "siim-isic-melanoma-classification": Layout(
        "roc_auc", 1.0, "ISIC_{z7}", "jpeg/train/{id}.jpg", "jpeg/test/{id}.jpg", classes=TWO,
        words=["benign", "malignant"], fields=lambda n: {"patient": f"IP_{n % 19:07}"},
        tables={"train.csv": f"{SKIN}, diagnosis=?nevus|unknown, benign_malignant=word, target=label",
                "test.csv": SKIN, "sample_submission.csv": "image_name=id, target=0"},
        others={"train/{id}.dcm": bytes(128) + b"DICM", "test/{id}.dcm": bytes(128) + b"DICM",
                "tfrecords/train00-2071.tfrec": bytes(64)},
    ),
    "cifar-10": Layout(
        "accuracy", 1.0, "{n1}", "train/{id}.png", "test/{id}.png", classes=CIFAR,
        tables={"trainLabels.csv": "id=id, label=label", "sampleSubmission.csv": "id=id, label=cat"},
        packed={"train.7z": "train/", "test.7z": "test/"}, epochs=14,
    ),
    "dog-breed-identification": Layout(
        "log_loss", 0.6, "{h32}", "train/{id}.jpg", "test/{id}.jpg", classes=BREEDS, rows=(240, 60),
        tables={"labels.csv": "id=id, breed=label",
                "sample_submission.csv": f"id=id, *={1 / 120}"},
        packed={"dog-breed-identification.zip": ""}, epochs=32,
    ),
    "leaf-classification": Layout(
        "log_loss", 0.6, "{d4}", "images/{id}.jpg", "images/{id}.jpg", classes=SPECIES,
        rows=(198, 60),
        tables={"train.csv": f"id=id, species=label, {LEAF}", "test.csv": f"id=id, {LEAF}",
                "sample_submission.csv": f"id=id, *={1 / 99}"}, epochs=32,
    ),
    "leaf-classification-kaggle": Layout(
        "log_loss", 0.6, "{d4}", "images/{id}.jpg", "images/{id}.jpg", classes=SPECIES,
        rows=(198, 60),
        tables={"train.csv": f"id=id, species=label, {LEAF}", "test.csv": f"id=id, {LEAF}",
                "sample_submission.csv": f"id=id, *={1 / 99}"}, epochs=32,
        packed={"train.csv.zip": "train.csv", "test.csv.zip": "test.csv",
                "sample_submission.csv.zip": "sample_submission.csv", "images.zip": "images/"},
    ),
    "state-farm-distracted-driver-detection": Layout(
        "log_loss", 1.0, "img_{d5}.jpg", "imgs/train/{label}/{id}", "imgs/test/{id}",
        classes=[f"c{n}" for n in range(10)], fields=lambda n: {"subject": f"p{n // 10:03}"},
        tables={"driver_imgs_list.csv": "subject=subject, classname=label, img=id",
                "sample_submission.csv": "img=id, *=0.1"},
        packed={"imgs.zip": "imgs/"},
    ),
    "plant-pathology-2020-fgvc7": Layout(
        "macro_roc_auc", 1.0, ("Train_{n}", "Test_{n}"), "images/{id}.jpg", "images/{id}.jpg",
        classes=["healthy", "multiple_diseases", "rust", "scab"],
        tables={"train.csv": "image_id=id, *=flag", "test.csv": "image_id=id",
                "sample_submission.csv": "image_id=id, *=0.25"},
    ),
    "plant-seedlings-classification": Layout(
        "micro_f1", 1.0, "{h9}.png", "train/{label}/{id}", "test/{id}", classes=SEEDLINGS,
        tables={"sample_submission.csv": "file=id, species=Sugar beet"},
        packed={"plant-seedlings-classification.zip": ""}, epochs=12,
    ),
    "dogs-vs-cats-redux-kernels-edition": Layout(
        "log_loss", 1.0, ("{word}.{k}", "{n1}"), "train/{id}.jpg", "test/{id}.jpg", classes=TWO,
        words=["cat", "dog"], tables={"sample_submission.csv": "id=id, label=0.5"},
        packed={"train.zip": "train/", "test.zip": "test/"},
    ),
    "intel-image-classification": Layout(
        "accuracy", 1.0, ("{k}", "{n}"), "seg_train/seg_train/{label}/{id}.jpg",
        "seg_pred/seg_pred/{id}.jpg", tables={},
        classes=["buildings", "forest", "glacier", "mountain", "sea", "street"],
        others={"seg_test/seg_test/{label}/{k}.jpg": b""},
    ),
    "inaturalist-2019-fgvc6": Layout(
        "top_1_error", 1.0, "{d6}", "train_val2019/Plants/{label}/{id}.jpg", "test2019/{id}.jpg",
        classes=["71", "108", "339", "341", "560"],
        tables={"train2019.json": _coco_train, "test2019.json": _coco_test,
                "kaggle_sample_submission.csv": "id=id, predicted=0 43 111"},
        packed={"train_val2019.tar.gz": "train_val2019/", "test2019.tar.gz": "test2019/"},
    ),
}  # fmt: skip
"""One class an image, in a file of its own."""

OTHERS = {
    "plant-pathology-2021-fgvc8": Layout(
        "samples_f1", 0.95, "{h16}.jpg", "train_images/{id}", "test_images/{id}", kind="any_of",
        classes=["scab", "healthy", "frog_eye_leaf_spot", "rust", "complex", "powdery_mildew"],
        sets=["scab", "healthy", "frog_eye_leaf_spot", "rust", "complex", "powdery_mildew",
              "scab frog_eye_leaf_spot", "scab frog_eye_leaf_spot complex", "rust complex"],
        epochs=16,
        tables={"train.csv": "image=id, labels=label",
                "sample_submission.csv": "image=id, labels=healthy"},
    ),
    "ranzcr-clip-catheter-line-classification": Layout(
        "macro_roc_auc", 0.95, "1.2.826.0.1.3680043.8.498.{d38}", "train/{id}.jpg", "test/{id}.jpg",
        kind="any_of", classes=CATHETERS, fields=lambda n: {"patient": f"{n % 24:09x}"}, epochs=34,
        tables={"train.csv": "StudyInstanceUID=id, *=flag, PatientID=patient",
                "train_annotations.csv": "StudyInstanceUID=id, label=CVC - Normal, data=[]",
                "sample_submission.csv": "StudyInstanceUID=id, *=0"},
        packed={"ranzcr-clip-catheter-line-classification.zip": ""},
        rows=(120, 40),
    ),
    "human-protein-atlas-image-classification": Layout(
        "macro_f1", 0.95, "{h8}-bbad-11e8-b2b9-{h12}", "train/{id}_{part}.png", "test/{id}_{part}.png",
        kind="any_of", classes=PROTEINS, parts=("red", "green", "blue", "yellow"),
        sets=[*PROTEINS, *(f"{b} {a}" for a, b in combinations(PROTEINS, 2))],
        tables={"train.csv": "Id=id, Target=label", "sample_submission.csv": "Id=id, Predicted=0"},
        packed={"train.zip": "train/", "test.zip": "test/"},
        epochs=18,
    ),
    "petfinder-pawpularity-score": Layout(
        "rmse", 0.9, "{h32}", "train/{id}.jpg", "test/{id}.jpg", kind="number",
        classes=["Pawpularity"], span=(1, 100, 0),
        tables={"train.csv": f"Id=id, {PETS}, Pawpularity=flag", "test.csv": f"Id=id, {PETS}",
                "sample_submission.csv": "Id=id, Pawpularity=?45.12|60.3"},
    ),
    "digit-recognizer": Layout(
        "accuracy", 1.0, "{n1}", "", "", classes=list("0123456789"), grey=True, epochs=16, seed=2,
        tables={"train.csv": "label=label, pixel[0-783]=pixels", "test.csv": "pixel[0-783]=pixels",
                "sample_submission.csv": "ImageId=id, Label=0"},
    ),
    "facial-expression-recognition-challenge": Layout(
        "accuracy", 1.0, "{n}", "", "", classes=list("0123456"), grey=True, side=48, epochs=16,
        tables={"train.csv": "emotion=label, pixels=text", "test.csv": "pixels=text",
                "example_submission.csv": "emotion=0"},
        packed={"facial-expression-recognition-challenge.zip": ""},
    ),
    "seti-breakthrough-listen": Layout(
        "roc_auc", 1.0, "{h15}", "train/{id[0]}/{id}.npy", "test/{id[0]}/{id}.npy", classes=TWO,
        grey=True,
        tables={"train_labels.csv": "id=id, target=label",
                "sample_submission.csv": "id=id, target=0.5"},
    ),
    "rsna-miccai-brain-tumor-radiogenomic-classification": Layout(
        "roc_auc", 1.0, "{z5}", "train/{id}/{part}.dcm", "test/{id}/{part}.dcm", classes=TWO,
        parts=[f"{kind}/Image-{n}" for kind in ("FLAIR", "T1w", "T1wCE", "T2w") for n in (1, 2)],
        tables={"train_labels.csv": "BraTS21ID=id, MGMT_value=label",
                "sample_submission.csv": "BraTS21ID=id, MGMT_value=0.5"},
        grey=True, rows=(40, 16),
    ),
    "rsna-breast-cancer-detection": Layout(
        "probabilistic_f1", 0.9, ("{patient}-{side}", "{patient}-{side}"),
        "train_images/{patient}/{image}.dcm", "test_images/{patient}/{image}.dcm", classes=TWO,
        parts=("CC", "MLO"), grey=True, rows=(48, 24),
        fields=lambda n: {"patient": 10000 + 11 * (n // 2), "side": "LR"[n % 2]},
        tables={"train.csv": f"{BREAST}, cancer=label, implant=0, machine_id=49",
                "test.csv": f"{BREAST}, implant=0, machine_id=49, prediction_id=id",
                "sample_submission.csv": "prediction_id=id, cancer=0.02"},
    ),
    "statoil-iceberg-classifier-challenge": Layout(
        "log_loss", 1.0, "{h8}", "", "", classes=TWO, grey=True, rows=(48, 16),
        tables={"train.json": "id=id, band_1=band, band_2=band, inc_angle=na, is_iceberg=label",
                "test.json": "id=id, band_1=band, band_2=band, inc_angle=na",
                "sample_submission.csv": "id=id, is_iceberg=0.5"},
        packed={"train.json.7z": "train.json", "test.json.7z": "test.json",
                "sample_submission.csv.7z": "sample_submission.csv"},
    ),
}  # fmt: skip
"""Several labels or numbers, pixels in tables, several files an image, other formats."""


UNSEEN = {
    "planet-understanding-the-amazon-from-space": Layout(
        "samples_f2", 0.95, ("train_{n}", "{stem}_{n}"), "train-jpg/{id}.jpg", "{folder}/{id}.jpg",
        kind="any_of", classes=TAGS, epochs=16,
        sets=["clear primary", "haze primary", "clear primary water", "agriculture clear road",
              "clear cultivation habitation primary", "haze primary road", "agriculture clear"],
        fields=lambda n: [{"stem": "test", "folder": "test-jpg"},
                          {"stem": "file", "folder": "test-jpg-additional"}][n % 2],
        tables={"train_v2.csv": "image_name=id, tags=label",
                "sample_submission_v2.csv": "image_name=id, tags=primary clear"},
    ),
    "diabetic-retinopathy-detection": Layout(
        "quadratic_kappa", 1.0, "{patient}_{eye}", "train/{id}.jpeg", "test/{id}.jpeg",
        classes=FIVE, fields=lambda n: {"patient": 10 + n // 2, "eye": ["left", "right"][n % 2]},
        tables={"trainLabels.csv": "image=id, level=label",
                "sampleSubmission.csv": "image=id, level=0"},
        packed={"train.zip": "train/", "test.zip": "test/", "trainLabels.csv.zip": "trainLabels.csv",
                "sampleSubmission.csv.zip": "sampleSubmission.csv"},
        prepare={"groups": {"source": "name", "pattern": r"(\d+)_(?:left|right)"}},
    ),
    "chest-xray-pneumonia": Layout(
        "accuracy", 1.0, "{word}-{z4}", "chest_xray/train/{label}/{id}.jpeg",
        "chest_xray/test/{label}/{id}.jpeg", classes=["NORMAL", "PNEUMONIA"],
        words=["IM", "person"], tables={}, others={"chest_xray/val/{label}/val-{k}.jpeg": b""},
        prepare={"sample_submission": "none", "train_images": "chest_xray/train",
                 "test_images": "chest_xray/test"},
    ),
    "humpback-whale-identification": Layout(
        "map_at_5", 0.95, "{h8}.jpg", "train/{id}", "test/{id}",
        classes=["new_whale", *(f"w_{n:07x}" for n in range(1000, 10000, 1000))],
        tables={"train.csv": "Image=id, Id=label",
                "sample_submission.csv":
                    "Image=id, Id=new_whale w_00003e8 w_00007d0 w_0000bb8 w_0000fa0"},
        packed={"humpback-whale-identification.zip": ""},
    ),
    "galaxy-zoo-the-galaxy-challenge": Layout(
        "rmse", 0.9, "{d6}", "images_training_rev1/{id}.jpg", "images_test_rev1/{id}.jpg",
        kind="number", classes=GALAXIES, epochs=16, span=(0, 1, 6),
        tables={"training_solutions_rev1.csv": "GalaxyID=id, *=flag",
                "all_zeros_benchmark.csv": "GalaxyID=id, *=0"},
        packed={"images_training_rev1.zip": "images_training_rev1/",
                "images_test_rev1.zip": "images_test_rev1/"},
        prepare={"sample_submission": "all_zeros_benchmark.csv"},
    ),
    "imet-2019-fgvc6": Layout(
        "micro_f2", 0.95, "{h16}", "train/{id}.png", "test/{id}.png", kind="any_of",
        classes=["13", "51", "147", "616", "813", "1092"], epochs=16,
        sets=["147 616 813", "51 616", "13 813", "147 1092", "1092", "13 51", "616 1092", "51"],
        tables={"train.csv": "id=id, attribute_ids=label",
                "sample_submission.csv": "id=id, attribute_ids=0 1 2"},
        others={"labels.csv": b"attribute_id,attribute_name\n13,culture::french\n51,tag::men\n"},
    ),
    "street-view-getting-started-with-julia": Layout(
        "accuracy", 1.0, ("{n1}", "9{d3}"), "trainResized/{id}.Bmp", "testResized/{id}.Bmp",
        classes=["0", "7", "A", "N", "a", "n"], others={"train/{id}.Bmp": b"", "test/{id}.Bmp": b""},
        tables={"trainLabels.csv": "ID=id, Class=label", "sampleSubmission.csv": "ID=id, Class=A"},
        packed={"train.zip": "train/", "test.zip": "test/", "trainResized.zip": "trainResized/",
                "testResized.zip": "testResized/"},
        prepare={"train_images": "trainResized.zip", "test_images": "testResized.zip"},
    ),
    "hotel-id-2021-fgvc8": Layout(
        "map_at_5", 0.95, "{h16}.jpg", "train_images/{chain}/{id}", "test_images/{id}",
        classes=["36363", "53586", "18807", "64314", "60181", "1234"],
        fields=lambda n: {"chain": n % 5},
        tables={"train.csv": "image=id, chain=chain, hotel_id=label, timestamp=2019-03-01 10:22:11",
                "sample_submission.csv": "image=id, hotel_id=36363 53586 18807 64314 60181"},
    ),
    "sorghum-id-fgvc-9": Layout(
        "accuracy", 1.0, "2017-06-{z8}.png", "train_images/{id}", "test/{id}",
        classes=["PI_144134", "PI_145619", "PI_145626", "PI_145633"],
        tables={"train_cultivar_mapping.csv": "image=id, cultivar=label",
                "sample_submission.csv": "filename=id, cultivar=PI_144134"},
    ),
    "ubc-ocean": Layout(
        "balanced_accuracy", 1.0, "{d5}", "train_images/{id}.png", "test_images/{id}.png",
        classes=["CC", "EC", "HGSC", "LGSC", "MC"],
        others={"train_thumbnails/{id}_thumbnail.png": b"", "test_thumbnails/{id}_thumbnail.png": b""},
        tables={"train.csv": "image_id=id, label=label, image_width=28, image_height=28, is_tma=False",
                "test.csv": "image_id=id, image_width=28, image_height=28",
                "sample_submission.csv": "image_id=id, label=HGSC"},
        prepare={"train_images": "train_images", "test_images": "test_images"},
    ),
    "the-nature-conservancy-fisheries-monitoring": Layout(
        "log_loss", 1.0, "img_{z5}.jpg", "train/{label}/{id}", "test_stg1/{id}", classes=FISH,
        tables={"sample_submission_stg1.csv": "image=id, *=0.125"},
        packed={"train.zip": "train/", "test_stg1.zip": "test_stg1/",
                "sample_submission_stg1.csv.zip": "sample_submission_stg1.csv"},
    ),
    "invasive-species-monitoring": Layout(
        "roc_auc", 1.0, "{n1}", "train/{id}.jpg", "test/{id}.jpg", classes=TWO,
        tables={"train_labels.csv": "name=id, invasive=label",
                "sample_submission.csv": "name=id, invasive=0.5"},
        packed={"train.7z": "train/", "test.7z": "test/", "train_labels.csv.zip": "train_labels.csv",
                "sample_submission.csv.zip": "sample_submission.csv"},
    ),
    "kannada-mnist": Layout(
        "accuracy", 1.0, "{n}", "", "", classes=list("0123456789"), grey=True, epochs=16, seed=2,
        tables={"train.csv": "label=label, pixel[0-783]=pixels",
                "test.csv": "id=id, pixel[0-783]=pixels",
                "Dig-MNIST.csv": "label=label, pixel[0-783]=pixels",
                "sample_submission.csv": "id=id, label=0"},
        prepare={"labels": "train.csv"},
    ),
}  # fmt: skip
"""Competitions that nothing in the pipeline was made for."""

BEYOND = {
    "facial-keypoints-detection": Layout(
        "rmse", 0.9, "{n1}", "", "", kind="number", classes=["left_eye_x", "left_eye_y"], grey=True,
        rows=(12, 4), side=96,
        tables={"training.csv": "*=flag, Image=text", "test.csv": "ImageId=id, Image=text",
                "IdLookupTable.csv": "RowId=id, ImageId=id, FeatureName=left_eye_x, Location=",
                "SampleSubmission.csv": "RowId=id, Location=0"},
    ),
    "isic-2024-challenge": Layout(
        "roc_auc", 1.0, "ISIC_{z7}", "", "", classes=TWO, rows=(12, 4),
        tables={"train-metadata.csv": "isic_id=id, target=label",
                "sample_submission.csv": "isic_id=id, target=0.3"},
        others={"train-image.hdf5": b"\x89HDF\r\n", "test-image.hdf5": b"\x89HDF\r\n"},
    ),
    "tpu-getting-started": Layout(
        "macro_f1", 1.0, "{h9}", "", "", classes=FIVE, rows=(12, 4),
        tables={"sample_submission.csv": "id=id, label=0"},
        others={"tfrecords-jpeg-192x192/train/00-192x192-798.tfrec": bytes(64),
                "tfrecords-jpeg-192x192/test/00-192x192-462.tfrec": bytes(64)},
    ),
}  # fmt: skip
"""Competitions of images that the pipeline does not solve."""
