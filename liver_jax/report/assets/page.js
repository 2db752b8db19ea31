// The slice browser and the 3D view. All data is in the page as JSON, a script element per case; nothing is fetched.
'use strict';
(() => {
  const SCALE = 4; // canvas pixels per pixel of the grid, so that outlines are crisp
  const SMALLEST_BOX = 0.3; // of the side: a lesion is read with what lies around it
  const about = read('about');
  const networks = Object.keys(about.networks);
  const [low, high] = about.window;
  const windows = presets();
  const state = { number: 1, position: 0, lesion: -1, opacity: 0.3, zoom: false, window: 0 };
  const decoded = new Map(); // 'case/position' to a promise of grey values
  let current = null; // the case that is shown

  const $ = (id) => document.getElementById(id);

  function read(id) {
    return JSON.parse(document.getElementById(id).textContent);
  }

  /** Named windows in HU, of which the slices hold what lies within the one they were prepared with. */
  function presets() {
    const known = [['liver', -45, 105], ['tumour, narrow', 20, 160], ['abdomen', -150, 250]];
    const whole = [['as prepared', low, high]];
    return whole.concat(known.filter(([, from, to]) => from < high && to > low && !(from <= low && to >= high)));
  }

  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  const score = (dice) => (dice === null || dice === undefined ? '–' : dice.toFixed(3));

  // ---- data ----

  function loadCase(number) {
    const found = read(`case-${number}`);
    for (const slice of found.slices) {
      slice.truth = mask(slice.truth, found.side);
      for (const name of networks) slice.predictions[name] = mask(slice.predictions[name], found.side);
    }
    return found;
  }

  /** Run lengths, outside first, to a byte per pixel. */
  function mask(runs, side) {
    const pixels = new Uint8Array(side * side);
    let at = 0;
    runs.forEach((length, turn) => {
      if (turn % 2) pixels.fill(1, at, at + length);
      at += length;
    });
    return pixels;
  }

  /** Grey values of a slice, decoded once. */
  function grey(shown, position) {
    const key = `${shown.number}/${position}`;
    if (!decoded.has(key)) {
      decoded.set(key, new Promise((done, failed) => {
        const image = new Image();
        image.onload = () => {
          const context = canvas(shown.side).getContext('2d', { willReadFrequently: true });
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, shown.side, shown.side);
          done(Uint8Array.from({ length: shown.side ** 2 }, (_, pixel) => data[4 * pixel]));
        };
        image.onerror = failed;
        image.src = `data:image/webp;base64,${shown.slices[position].image}`;
      }));
    }
    return decoded.get(key);
  }

  function canvas(side) {
    const made = document.createElement('canvas');
    made.width = made.height = side;
    return made;
  }

  // ---- drawing ----

  /** The panels: what each fills and outlines on a slice, and what stands beside its title. */
  function panels() {
    const both = networks.length === 2;
    const [first, second] = networks;
    return [
      { title: 'CT', fills: () => [], lines: () => [], note: (slice) => `slice ${slice.index}` },
      {
        title: 'Truth', fills: (slice) => [[slice.truth, about.truth]], lines: (slice) => [[slice.truth, '#fff', 1.5]],
        note: (slice) => `${count(slice.truth)} px`,
      },
      ...networks.map((name) => ({
        title: name, fills: (slice) => [[slice.predictions[name], about.networks[name]]],
        lines: (slice) => [[slice.predictions[name], about.networks[name], 3], [slice.truth, '#fff', 1.2]],
        note: (slice) => `Dice ${score(slice.dice[name])}`,
      })),
      both ? {
        title: 'Disagreement', strong: true, lines: (slice) => [[slice.truth, '#fff', 1.2]],
        fills: (slice) => [
          [without(slice.predictions[first], slice.predictions[second]), about.networks[first]],
          [without(slice.predictions[second], slice.predictions[first]), about.networks[second]],
        ],
        note: (slice) => `${differ(slice.predictions[first], slice.predictions[second])} px`,
      } : {
        title: 'Errors', strong: true, lines: (slice) => [[slice.truth, '#fff', 1.2]],
        fills: (slice) => [
          [without(slice.predictions[first], slice.truth), about.networks[first]],
          [without(slice.truth, slice.predictions[first]), '#ff5c8a'],
        ],
        note: (slice) => `${differ(slice.predictions[first], slice.truth)} px`,
      },
    ];
  }

  const count = (pixels) => pixels.reduce((sum, value) => sum + value, 0);
  const without = (one, other) => one.map((value, pixel) => value & ~other[pixel] & 1);
  const differ = (one, other) => count(one.map((value, pixel) => value ^ other[pixel]));

  async function draw() {
    const shown = current, { position } = state, slice = shown.slices[position];
    const values = await grey(shown, position);
    if (shown !== current || position !== state.position) return; // the reader has gone on
    const box = view(shown, slice);
    const ct = tissue(values, shown.side);
    for (const panel of drawn) {
      const context = panel.canvas.getContext('2d');
      const whole = panel.canvas.width;
      context.imageSmoothingEnabled = true;
      context.drawImage(ct, box.left, box.top, box.side, box.side, 0, 0, whole, whole);
      context.imageSmoothingEnabled = false;
      for (const [pixels, colour] of panel.fills(slice)) {
        context.globalAlpha = panel.strong ? Math.min(1, 2.5 * state.opacity) : state.opacity;
        context.drawImage(tinted(pixels, colour, shown.side), box.left, box.top, box.side, box.side, 0, 0, whole, whole);
        context.globalAlpha = 1;
      }
      for (const [pixels, colour, width] of panel.lines(slice)) outline(context, pixels, colour, width, shown.side, box);
      const note = panel.note(slice);
      panel.caption.textContent = note;
      panel.canvas.setAttribute('aria-label', `${panel.title}, ${shown.name} slice ${slice.index}, ${note}`);
    }
    describe(shown, slice);
    strip(shown);
    $('viewer').dataset.drawn = `${state.number}/${slice.index}/${windows[state.window][0]}/${state.zoom ? 'zoom' : 'whole'}`;
  }

  /** CT through the window. */
  function tissue(values, side) {
    const [, from, to] = windows[state.window];
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => (
      (255 * (low + (value / 255) * (high - low) - from)) / (to - from)));
    return paint(side, (data) => values.forEach((value, pixel) => {
      data[4 * pixel] = data[4 * pixel + 1] = data[4 * pixel + 2] = table[value];
      data[4 * pixel + 3] = 255;
    }));
  }

  function tinted(pixels, colour, side) {
    const [red, green, blue] = rgb(colour);
    return paint(side, (data) => pixels.forEach((inside, pixel) => {
      if (inside) data.set([red, green, blue, 255], 4 * pixel);
    }));
  }

  function paint(side, fill) {
    const made = canvas(side), context = made.getContext('2d'), picture = context.createImageData(side, side);
    fill(picture.data);
    context.putImageData(picture, 0, 0);
    return made;
  }

  function rgb(colour) {
    const digits = colour.length === 4 ? [...colour.slice(1)].map((digit) => digit + digit).join('') : colour.slice(1);
    return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
  }

  /** The borders of the pixels of a mask. */
  function outline(context, pixels, colour, width, side, box) {
    const zoom = context.canvas.width / box.side;
    const at = (row, column) => (row >= 0 && row < side && column >= 0 && column < side ? pixels[row * side + column] : 0);
    context.beginPath();
    for (let row = 0; row <= side; row += 1) {
      for (let column = 0; column <= side; column += 1) {
        const x = (column - box.left) * zoom, y = (row - box.top) * zoom, here = at(row, column);
        if (here !== at(row - 1, column)) { context.moveTo(x, y); context.lineTo(x + zoom, y); }
        if (here !== at(row, column - 1)) { context.moveTo(x, y); context.lineTo(x, y + zoom); }
      }
    }
    context.strokeStyle = colour;
    context.lineWidth = (width * context.canvas.width) / 512;
    context.stroke();
  }

  /** What is shown of the slice: all of it, or a square around the chosen lesion, or around all that is marked. */
  function view(shown, slice) {
    const { side } = shown, all = { left: 0, top: 0, side };
    if (!state.zoom) return all;
    const lesion = shown.lesions[state.lesion];
    const [top, left, bottom, right] = lesion ? lesion.box : bounds([slice.truth, ...Object.values(slice.predictions)], side);
    if (bottom <= top) return all;
    const length = Math.min(side, Math.max(1.6 * Math.max(bottom - top, right - left), SMALLEST_BOX * side));
    const start = (from, to) => Math.min(side - length, Math.max(0, (from + to - length) / 2));
    return { left: start(left, right), top: start(top, bottom), side: length };
  }

  function bounds(masks, side) {
    let [top, left, bottom, right] = [side, side, 0, 0];
    masks.forEach((pixels) => pixels.forEach((inside, pixel) => {
      if (!inside) return;
      const row = Math.floor(pixel / side), column = pixel % side;
      [top, left] = [Math.min(top, row), Math.min(left, column)];
      [bottom, right] = [Math.max(bottom, row + 1), Math.max(right, column + 1)];
    }));
    return [top, left, bottom, right];
  }

  /** Along the scan: the size of the truth as bars, the Dice of the networks as points, where we are as a line. */
  function strip(shown) {
    const target = $('strip'), width = Math.max(1, target.clientWidth), height = target.clientHeight;
    const ratio = window.devicePixelRatio || 1;
    [target.width, target.height] = [width * ratio, height * ratio];
    const context = target.getContext('2d');
    context.scale(ratio, ratio);
    const step = width / shown.slices.length, room = height - 10;
    const largest = Math.max(1, ...shown.areas);
    shown.slices.forEach((slice, position) => {
      const x = position * step, tall = (shown.areas[position] / largest) * room;
      context.fillStyle = position === state.position ? '#5f7385' : '#36414d';
      context.fillRect(x + 0.5, height - 4 - tall, Math.max(1, step - 1), tall);
      networks.forEach((name) => {
        if (slice.dice[name] === null) return;
        context.fillStyle = about.networks[name];
        context.beginPath();
        context.arc(x + step / 2, height - 4 - slice.dice[name] * room, Math.max(1.8, Math.min(4, step / 3)), 0, 7);
        context.fill();
      });
    });
    context.fillStyle = '#fff';
    context.fillRect((state.position + 0.5) * step - 0.75, 0, 1.5, height);
  }

  function describe(shown, slice) {
    const dice = networks.map((name) => `${name} Dice ${score(slice.dice[name])}`).join(', ');
    const left = shown.left_out ? ` (${shown.left_out} slices of this case are left out for size)` : '';
    const place = `${state.position + 1} of ${shown.slices.length}`;
    $('status').textContent = `${shown.name} (${shown.patient}), slice ${slice.index}, ${place}${left}: ${dice}`;
    $('slice').value = state.position;
    $('slice').setAttribute('aria-valuetext', `slice ${slice.index}, ${place}`);
    [...$('lesions').children].forEach((item, number) => (
      item.firstChild.setAttribute('aria-current', String(number === state.lesion))));
  }

  // ---- moving ----

  function show(number) {
    state.number = number;
    current = Object.assign(loadCase(number), { number });
    current.areas = current.slices.map((slice) => count(slice.truth));
    $('case').value = number;
    if ($('open-volume')) $('open-volume').textContent = `Show ${current.name} in 3D`;
    $('slice').max = current.slices.length - 1;
    const list = $('lesions');
    list.replaceChildren();
    current.lesions.forEach((lesion, which) => {
      const button = element('button', `${lesion.diameter} mm`, element('li', undefined, list));
      button.type = 'button';
      element('small', networks.map((name) => `${name} ${score(lesion.dice[name])}`).join(' · '), button);
      button.addEventListener('click', () => toLesion(which));
    });
    if (!current.lesions.length) element('li', 'none on these slices', list);
  }

  function go(position) {
    state.position = Math.min(current.slices.length - 1, Math.max(0, position));
    history.replaceState(null, '', `#case=${state.number}&slice=${current.slices[state.position].index}`);
    return draw();
  }

  function move(by) {
    state.lesion = -1;
    return go(state.position + by);
  }

  function toLesion(which) {
    if (!current.lesions.length) return;
    state.lesion = (which + current.lesions.length) % current.lesions.length;
    go(current.lesions[state.lesion].position);
  }

  function toCase(number) {
    state.lesion = -1;
    show(((number - 1 + about.cases.length) % about.cases.length) + 1);
    go(current.lesions.length ? current.lesions[0].position : 0);
  }

  function setWindow(which) {
    state.window = which % windows.length;
    $('window').value = state.window;
    draw();
  }

  function setOpacity(value) {
    state.opacity = Math.min(1, Math.max(0, value));
    $('opacity').value = Math.round(100 * state.opacity);
    draw();
  }

  function setZoom(on) {
    state.zoom = $('zoom').checked = on;
    draw();
  }

  /** '#case=2&slice=57' opens that slice; other fragments are sections. */
  function follow() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const number = Number(wanted.get('case'));
    if (!Number.isInteger(number) || number < 1 || number > about.cases.length) return false;
    state.lesion = -1;
    if (!current || number !== state.number) show(number);
    const index = Number(wanted.get('slice'));
    const nearest = current.slices.reduce((best, slice, position) => (
      Math.abs(slice.index - index) < Math.abs(current.slices[best].index - index) ? position : best), 0);
    go(nearest);
    $('browser').scrollIntoView();
    $('viewer').focus({ preventScroll: true });
    return true;
  }

  const keys = {
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowUp: () => move(1), ArrowDown: () => move(-1),
    Home: () => move(-state.position), End: () => move(current.slices.length), PageUp: () => move(5), PageDown: () => move(-5),
    n: () => toLesion(state.lesion + 1), p: () => toLesion(state.lesion < 0 ? -1 : state.lesion - 1),
    '[': () => toCase(state.number - 1), ']': () => toCase(state.number + 1), w: () => setWindow(state.window + 1),
    '+': () => setOpacity(state.opacity + 0.1), '=': () => setOpacity(state.opacity + 0.1),
    '-': () => setOpacity(state.opacity - 0.1), z: () => setZoom(!state.zoom),
  };

  function onKey(event) {
    const native = ['SELECT', 'INPUT'].includes(event.target.tagName) && event.key.length > 1; // their own arrows
    if (event.ctrlKey || event.altKey || event.metaKey || native || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** A swipe to the side turns slices, one per tenth of the picture's width; up and down the page scrolls. */
  function onSwipe(target) {
    let from = null;
    target.addEventListener('pointerdown', (event) => { from = event.clientX; target.setPointerCapture(event.pointerId); });
    target.addEventListener('pointermove', (event) => {
      const steps = from === null ? 0 : Math.trunc((event.clientX - from) / (target.clientWidth / 10));
      if (!steps) return;
      from = event.clientX;
      move(steps);
    });
    ['pointerup', 'pointercancel'].forEach((name) => target.addEventListener(name, () => { from = null; }));
  }

  // ---- 3D ----

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

  // ---- start ----

  const drawn = panels().map((panel) => {
    const figure = element('figure', undefined, $('panels')), caption = element('figcaption', undefined, figure);
    element('span', panel.title, caption);
    const note = element('span', '', caption), target = element('canvas', undefined, figure);
    target.width = target.height = Math.max(512, SCALE * read('case-1').side);
    target.setAttribute('role', 'img');
    onSwipe(target);
    return Object.assign(panel, { canvas: target, caption: note });
  });
  about.cases.forEach((name, at) => { element('option', name, $('case')).value = at + 1; });
  windows.forEach(([name, from, to], at) => { element('option', `${name} (${from} … ${to} HU)`, $('window')).value = at; });
  $('case').addEventListener('change', (event) => toCase(Number(event.target.value)));
  $('window').addEventListener('change', (event) => setWindow(Number(event.target.value)));
  $('opacity').addEventListener('input', (event) => setOpacity(event.target.value / 100));
  $('zoom').addEventListener('change', (event) => setZoom(event.target.checked));
  $('slice').addEventListener('input', (event) => move(Number(event.target.value) - state.position));
  $('previous').addEventListener('click', () => move(-1));
  $('next').addEventListener('click', () => move(1));
  $('strip').addEventListener('click', (event) => (
    move(Math.floor((event.offsetX / $('strip').clientWidth) * current.slices.length) - state.position)));
  $('viewer').addEventListener('keydown', onKey);
  if ($('open-volume')) $('open-volume').addEventListener('click', openVolume);
  window.addEventListener('hashchange', follow);
  window.addEventListener('resize', () => strip(current));
  if (!follow()) {
    show(about.first);
    state.position = current.lesions.length ? current.lesions[0].position : 0;
    draw();
  }
})();
