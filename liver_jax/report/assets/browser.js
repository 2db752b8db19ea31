// Moving through slices, lesions and cases: keys, swipes, controls, the address. The last of the three: it starts.

function show(number) {
  state.number = number;
  decoded.clear(); // a phone has little memory
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
