// The slices of a case as pictures. All data is in the page as JSON, a script element per case; nothing is fetched.

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
