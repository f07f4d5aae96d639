// Shows what the page holds. Names are set as text, never as markup.
"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const embedded = (id) => byId(id).textContent.trim();
  const status = byId("status");
  const boxes = [...document.querySelectorAll("[data-label]")];
  let viewer, scan, mask;

  const colours = () => {
    const part = (n) => facts.labels.map((label) => parseInt(label.colour.slice(n, n + 2), 16));
    return {
      R: [0, ...part(1)], G: [0, ...part(3)], B: [0, ...part(5)],
      A: [0, ...boxes.map((box) => (box.checked ? 255 : 0))],
      I: [0, ...facts.labels.map((_, n) => n + 1)],
      labels: ["", ...facts.labels.map((label) => label.name)],
    };
  };

  const paint = () => {
    mask.setColormapLabel(colours());
    viewer.updateGLVolume();
  };

  const look = (name) => {
    const kinds = {
      all: viewer.sliceTypeMultiplanar, axial: viewer.sliceTypeAxial,
      coronal: viewer.sliceTypeCoronal, sagittal: viewer.sliceTypeSagittal,
      "3d": viewer.sliceTypeRender,
    };
    viewer.setSliceType(kinds[name]);
    for (const button of document.querySelectorAll("[data-look]")) {
      button.setAttribute("aria-pressed", String(button.dataset.look === name));
    }
  };

  const light = (window) => {
    [scan.cal_min, scan.cal_max] = window;
    viewer.updateGLVolume();
  };

  try {
    viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.55], crosshairWidth: 0.5,
      crosshairWidthUnit: "percent", crosshairGap: 0,
      dragAndDropEnabled: false, isRadiologicalConvention: true, isOrientCube: true,
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
      multiplanarEqualSize: false, isColorbar: false, fontColor: [1, 0.85, 0.3, 1], loadingText: "", logLevel: "error", scrollRequiresFocus: true,
      show3Dcrosshair: false, tileMargin: 2, isNearestInterpolation: false, renderOverlayBlend: 0.9,
    });
    await viewer.attachToCanvas(byId("view"));
    const shown = facts.windows[byId("window").selectedIndex].range;
    scan = await niivue.NVImage.loadFromBase64({
      base64: embedded("scan"), name: "scan.nii.gz", colormap: "gray",
      cal_min: shown[0], cal_max: shown[1], trustCalMinMax: false,
    });
    viewer.addVolume(scan);
    light(shown);
    if (byId("mask")) {
      mask = await niivue.NVImage.loadFromBase64({
        base64: embedded("mask"), name: "mask.nii.gz", opacity: Number(byId("opacity").value) / 100,
      });
      mask.setColormapLabel(colours());
      viewer.addVolume(mask);
    }
    if (facts.place_mm) {
      viewer.scene.crosshairPos = viewer.mm2frac(facts.place_mm);
    }
    look("all");
    viewer.updateGLVolume();
  } catch (error) {
    status.textContent = "The scan cannot be shown: this browser has no WebGL2, or too little memory for it.";
    throw error;
  }

  for (const button of document.querySelectorAll("[data-look]")) {
    button.addEventListener("click", () => look(button.dataset.look));
  }
  byId("window").addEventListener("change", (event) => light(facts.windows[event.target.selectedIndex].range));
  if (mask) {
    byId("opacity").addEventListener("input", (event) => viewer.setOpacity(1, Number(event.target.value) / 100));
    for (const box of boxes) {
      box.addEventListener("change", paint);
    }
  }
  status.textContent = "";
  document.documentElement.dataset.ready = "yes";
})();
