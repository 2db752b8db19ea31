// The chosen case as a volume, in NiiVue.

/** A NIfTI file in base64: 8 bit, axes towards left, back and head; a slice that is not here looks like the nearest. */
function nifti(shown, plane) {
  const { side, spacing: [dz, dy, dx] } = shown, first = shown.slices[0].index;
  const depth = shown.slices[shown.slices.length - 1].index - first + 1;
  const bytes = new Uint8Array(352 + side * side * depth), header = new DataView(bytes.buffer);
  header.setInt32(0, 348, true);
  [3, side, side, depth, 1, 1, 1, 1].forEach((size, at) => header.setInt16(40 + 2 * at, size, true));
  header.setInt16(70, 2, true); // uint8
  header.setInt16(72, 8, true);
  [1, dx, dy, dz].forEach((size, at) => header.setFloat32(76 + 4 * at, size, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  bytes[123] = 2; // mm
  header.setInt16(254, 1, true); // the rows of the affine follow
  [[-dx, 0, 0, (dx * side) / 2], [0, -dy, 0, (dy * side) / 2], [0, 0, dz, (-dz * depth) / 2]].forEach((row, number) => (
    row.forEach((value, at) => header.setFloat32(280 + 16 * number + 4 * at, value, true))));
  bytes.set([0x6e, 0x2b, 0x31, 0], 344); // 'n+1'
  let position = 0;
  for (let at = 0; at < depth; at += 1) {
    const away = (which) => Math.abs(shown.slices[which].index - first - at);
    while (position + 1 < shown.slices.length && away(position + 1) <= away(position)) position += 1;
    bytes.set(plane(shown.slices[position], position), 352 + side * side * at);
  }
  let text = '';
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}

let volumeView = null;

async function openVolume() {
  const shown = current, status = $('volume-status');
  status.textContent = 'building the volume …';
  try {
    const planes = await Promise.all(shown.slices.map((_, position) => grey(shown, position)));
    $('volume-frame').hidden = false;
    if (!volumeView) volumeView = await startNiivue();
    while (volumeView.volumes.length) volumeView.removeVolume(volumeView.volumes[0]);
    const [, from, to] = windows[state.window];
    const of255 = (hu) => Math.min(255, Math.max(0, (255 * (hu - low)) / (high - low)));
    await addVolume('CT', nifti(shown, (_, position) => planes[position]), 'gray', 1, of255(from), of255(to));
    await addVolume('Truth', nifti(shown, (slice) => slice.truth), 'mask0', 0.5, 0, 1);
    for (const [at, name] of networks.entries()) {
      await addVolume(name, nifti(shown, (slice) => slice.predictions[name]), `mask${at + 1}`, 0.5, 0, 1);
    }
    layers();
    const sparse = shown.slices[shown.slices.length - 1].index - shown.slices[0].index + 1 - shown.slices.length;
    status.textContent = `${shown.name}: ${shown.slices.length} slices${sparse ? `; in place of ${sparse} between them, which are not in the test set, the nearest is repeated` : ''}`;
    centre(shown);
    $('niivue').dataset.drawn = shown.name;
  } catch (error) {
    status.textContent = `The 3D view cannot be shown here (${error.message}); it needs WebGL 2.`;
  }
}

async function startNiivue() {
  const made = new window.niivue.Niivue({
    backColor: [0.08, 0.094, 0.114, 1], show3Dcrosshair: true, isOrientationTextVisible: true, dragAndDropEnabled: false,
    loadingText: '', isColorbar: false, multiplanarShowRender: 1, crosshairColor: [0.49, 0.77, 1, 0.7], logLevel: 'error', crosshairWidth: 0.5,
    isRadiologicalConvention: true, // as the slices are shown
  });
  await made.attachToCanvas($('niivue'));
  $('niivue').viewer = made;
  [about.truth, ...networks.map((name) => about.networks[name])].forEach((colour, at) => {
    const [red, green, blue] = rgb(colour);
    made.addColormap(`mask${at}`, { R: [0, red], G: [0, green], B: [0, blue], A: [0, 255], I: [0, 255] });
  });
  made.setSliceType(made.sliceTypeMultiplanar);
  if ($('niivue').clientWidth > 700) {
    Object.assign(made.opts, { heroImageFraction: 0.6, heroSliceType: made.sliceTypeRender }); // large, the planes beside
  } else {
    made.opts.multiplanarLayout = 2; // two by two
  }
  made.setClipPlane([0, 0, 90]); // the upper half of the CT is cut away, masks stay
  made.setClipPlaneColor([0.49, 0.77, 1, 0.05]);
  return made;
}

async function addVolume(name, base64, colormap, opacity, from, to) {
  const made = await window.niivue.NVImage.loadFromBase64({
    base64, name: `${name}.nii`, colormap, opacity, cal_min: from, cal_max: to, trustCalMinMax: false,
  });
  volumeView.addVolume(made);
}

/** The cross on the chosen lesion, else on the middle of the slice; NiiVue counts towards right, front and head. */
function centre(shown) {
  const { side, slices } = shown, first = slices[0].index, depth = slices[slices.length - 1].index - first + 1;
  const [top, left, bottom, right] = (shown.lesions[state.lesion] || { box: [0, 0, side, side] }).box;
  volumeView.scene.crosshairPos = [
    1 - (left + right) / 2 / side, 1 - (top + bottom) / 2 / side, (slices[state.position].index - first + 0.5) / depth,
  ];
  volumeView.drawScene();
}

function layers() {
  const list = $('layers');
  list.replaceChildren();
  ['CT', 'Truth', ...networks].forEach((name, at) => {
    const label = element('label', undefined, list), box = element('input', undefined, label);
    box.type = 'checkbox';
    box.checked = true;
    label.append(` ${name}`);
    box.addEventListener('change', () => volumeView.setOpacity(at, box.checked ? (at ? 0.5 : 1) : 0));
  });
}
