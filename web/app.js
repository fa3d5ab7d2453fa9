// The page: what the cluster tells, on the screen.

import { prepareAsking } from './ask.js';
import { Connection } from './connection.js';
import { byId, element, icon, numberElement, prepareDialog, setText, verdictElement } from './dom.js';
import { prepareMany } from './many.js';
import { Members } from './members.js';
import { prepareRange } from './range.js';
import { certaintyExplained, clock, counted, duration } from './text.js';
import { Timeline } from './timeline.js';
import { swatch } from './workers.js';

const RESULTS_SHOWN = 20;

const connection = new Connection(new URL('.', location).href.slice(0, -1));
const members = new Members();
const timeline = new Timeline();
const resultRows = new Map();
let lastResults = [];
let lastCluster = null;

const described = (node) => `${node.name || 'the node'} at ${new URL(node.base).host}`;
const isHeld = () => byId('results-hold').getAttribute('aria-pressed') === 'true';

function connectionText({ state, node, left, isTold }) {
  if (state === 'lost') return 'No member answers. Trying again until one does; open questions wait.';
  if (state === 'searching') {
    return node.name ? `${described(node)} does not answer; looking for another …` : 'Connecting …';
  }
  const how = isTold ? '' : '; its events do not arrive, so the page asks it every second';
  return left ? `${described(left)} stopped answering; now connected to ${described(node)}${how}` : `Connected to ${described(node)}${how}`;
}

function showConnection() {
  const line = byId('connection');
  const { state, node } = connection;
  line.dataset.state = state;
  line.dataset.node = state === 'connected' ? node.name : '';
  const shape = { connected: 'alive', searching: 'searching', lost: 'dead' }[state];
  line.replaceChildren(icon(shape), element('span', {}, connectionText(connection)));
  document.body.dataset.connection = state;
  for (const link of document.querySelectorAll('[data-path]')) link.href = node.base + link.dataset.path;
  if (lastCluster) showSummary();
}

function showState() {
  showConnection();
  const { state, node, left } = connection;
  if (state === 'lost') timeline.addMove('No member answers', 'this page keeps trying');
  if (state === 'connected' && left) timeline.addMove(`This page moved to ${node.name}`, `${left.name} stopped answering`);
}

function showCluster(cluster) {
  lastCluster = cluster;
  byId('cluster').hidden = false;
  showSummary();
  members.showCluster(cluster);
  timeline.showCluster(cluster);
}

/** Whose view this is, and whether it is still being told. */
function showSummary() {
  const { members, leader } = lastCluster;
  const alive = members.filter((member) => member.status === 'alive').length;
  const led = leader ? `led by ${leader.name} since ${clock(leader.since)}` : 'no leader in reach';
  const seen = connection.state === 'connected' ? 'as seen by' : 'as last seen by';
  setText(byId('summary'), `${alive} of ${counted(members.length, 'member')} alive, ${led}`);
  for (const place of document.querySelectorAll('.observer')) setText(place, `${seen} ${lastCluster.observed_by}`);
}

/** A node that reaches no leader knows only its own answers; older ones that were shown stay. */
function takeResults(results) {
  const oldest = results.at(-1)?.at ?? Infinity;
  lastResults = [...results, ...lastResults.filter((result) => result.at < oldest)].slice(0, RESULTS_SHOWN);
  if (!isHeld()) showResults(lastResults);
}

function showResults(results) {
  byId('latest').hidden = results.length === 0;
  const keys = new Set();
  const rows = results.map((result) => {
    const key = `${result.at} ${result.processed_by} ${result.duration_us} ${result.number}`;
    keys.add(key);
    if (!resultRows.has(key)) resultRows.set(key, resultRow(result));
    return resultRows.get(key);
  });
  for (const key of resultRows.keys()) if (!keys.has(key)) resultRows.delete(key);
  placeRows(byId('results'), rows);
}

/** Rows that stay are not touched, so that focus and selection stay too. */
function placeRows(list, rows) {
  const wanted = new Set(rows);
  for (const row of [...list.children]) if (!wanted.has(row)) row.remove();
  let next = list.firstElementChild;
  for (const row of wanted) {
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
}

function resultRow(result) {
  const how = [result.processed_by, result.certainty, duration(result.duration_us / 1000), clock(result.at)];
  const line = element('span', { class: 'how', title: certaintyExplained(result) }, swatch(result.processed_by), how.join(' · '));
  return element('li', {}, numberElement(result.number), verdictElement(result.is_prime), line);
}

function toggleHold({ currentTarget }) {
  const held = !isHeld();
  currentTarget.setAttribute('aria-pressed', String(held));
  if (!held) showResults(lastResults);
}

connection.addEventListener('state', showState);
connection.addEventListener('told', showConnection);
connection.addEventListener('cluster', ({ detail }) => showCluster(detail));
connection.addEventListener('stats', ({ detail }) => members.showStats(detail));
connection.addEventListener('results', ({ detail }) => takeResults(detail.results));
byId('results-hold').addEventListener('click', toggleHold);
prepareDialog();
prepareAsking(connection);
prepareMany();
prepareRange();
