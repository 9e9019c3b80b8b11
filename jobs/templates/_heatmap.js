'use strict';
// Draws the confusion matrix on a canvas: 300 classes are 90,000 cells, too many for elements.
{
  const {labels, cells} = JSON.parse(document.getElementById('matrix').textContent);
  const [map, canvas, cell, across, along, tip] = ['map', 'canvas', 'cell', 'across', 'along', 'tip'].map(id => document.getElementById(id));
  const pen = canvas.getContext('2d'), size = labels.length;
  const totals = cells.map(row => row.reduce((sum, value, at) => at % 2 ? sum + value : sum, 0));
  const counts = cells.map(row => new Map(row.flatMap((value, at) => at % 2 ? [] : [[value, row[at + 1]]])));
  const NAMED = 9;  // the smallest cell with room for a name, px
  // Mistakes are mostly a few per cent of a row: the square root keeps those visible beside 100%.
  const strength = share => 0.12 + 0.88 * Math.sqrt(share);
  const isolate = label => `\u2068${label}\u2069`;  // a name written right to left must not turn its neighbours
  let side = 0, gutter = 0, at = null;

  function short(text, room) {  // whole code points are dropped, so that no emoji is cut in half
    if (pen.measureText(text).width <= room) return text;
    const points = [...text.slice(0, 200)];
    while (points.length && pen.measureText(points.join('') + '…').width > room) points.pop();
    return points.join('') + '…';
  }

  function measure() {
    const room = map.parentElement.clientWidth, smallest = size <= 100 ? NAMED : 3;
    pen.font = '12px sans-serif';
    const named = 10 + Math.min(150, Math.max(...labels.map(label => pen.measureText(label).width)));
    side = Math.max(smallest, Math.min(46, Math.floor((room - named - 2) / size)));
    gutter = side >= NAMED ? Math.ceil(named) : 0;
  }

  function drawNames(ink) {
    pen.fillStyle = ink;
    pen.font = `${Math.min(12, side)}px sans-serif`;
    pen.textBaseline = 'middle';
    pen.textAlign = 'right';
    pen.fillText('called →', gutter - 6, gutter - 22, gutter - 8);
    pen.fillText('true ↓', gutter - 6, gutter - 8, gutter - 8);
    labels.forEach((label, i) => {
      const middle = gutter + (i + 0.5) * side, text = short(label, gutter - 10);
      pen.textAlign = 'right';
      pen.fillText(text, gutter - 6, middle);
      pen.save();
      pen.translate(middle, gutter - 6);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = 'left';
      pen.fillText(text, 0, 0);
      pen.restore();
    });
  }

  function drawCells(color) {
    const gap = side >= NAMED ? 1 : 0;
    counts.forEach((row, i) => row.forEach((count, j) => {
      const x = gutter + j * side, y = gutter + i * side, share = count / totals[i];
      pen.globalAlpha = strength(share);
      pen.fillStyle = i === j ? color('--go') : color('--stop');
      pen.fillRect(x, y, side - gap, side - gap);
      pen.globalAlpha = 1;
      if (side < 30) return;
      pen.fillStyle = strength(share) > 0.6 ? color('--card') : color('--ink');
      pen.font = '12px sans-serif';
      pen.textAlign = 'center';
      pen.fillText(String(count), x + side / 2, y + side / 2, side - 4);
    }));
  }

  function draw() {
    measure();
    const style = getComputedStyle(document.documentElement), known = {};
    const color = name => known[name] ??= style.getPropertyValue(name).trim();
    const whole = gutter + size * side, sharp = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.ceil(whole * sharp);
    canvas.style.width = canvas.style.height = whole + 'px';
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.fillStyle = color('--track');
    pen.globalAlpha = 0.5;
    pen.fillRect(gutter, gutter, size * side, size * side);
    pen.globalAlpha = 1;
    if (gutter) drawNames(color('--ink'));
    pen.textBaseline = 'middle';
    drawCells(color);
    if (at) point(...at);
  }

  function lay(element, x, y, width, height) {
    Object.assign(element.style, {left: x + 'px', top: y + 'px', width: width + 'px', height: height + 'px'});
    element.hidden = false;
  }

  function point(i, j) {
    at = [i, j];
    const count = counts[i].get(j) || 0, share = totals[i] ? (count / totals[i] * 100).toFixed(1) : '0.0';
    const x = gutter + j * side, y = gutter + i * side, whole = gutter + size * side;
    lay(cell, x, y, side, side);
    lay(across, 0, y, whole, side);
    lay(along, x, 0, side, whole);
    tip.textContent = i === j ? `${isolate(labels[i])}: ${count} of ${totals[i]} rows right (${share}%)`
      : `${isolate(labels[i])} → ${isolate(labels[j])}: ${count} of ${totals[i]} rows (${share}%)`;
    tip.hidden = false;
    tip.style.left = tip.style.top = '0';  // where it stood must not narrow it while it is measured
    if (map.parentElement.clientWidth - whole > tip.offsetWidth + 12) {  // beside the matrix it covers nothing
      tip.style.left = whole + 8 + 'px';
      tip.style.top = Math.max(0, Math.min(y, whole - tip.offsetHeight)) + 'px';
      return;
    }
    // else beside the cell, on the side that has room
    tip.style.left = (x > whole / 2 ? Math.max(0, x - tip.offsetWidth - 8) : x + side + 8) + 'px';
    tip.style.top = (y > whole / 2 ? Math.max(0, y - tip.offsetHeight - 8) : y + side + 8) + 'px';
  }

  function leave() {
    at = null;
    for (const element of [cell, across, along, tip]) element.hidden = true;
  }

  canvas.addEventListener('pointermove', event => {
    const box = canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - gutter) / side), i = Math.floor((event.clientY - box.top - gutter) / side);
    if (i < 0 || j < 0 || i >= size || j >= size) leave();
    else if (!at || at[0] !== i || at[1] !== j) point(i, j);
  });
  canvas.addEventListener('pointerleave', leave);
  canvas.addEventListener('blur', leave);
  canvas.addEventListener('keydown', event => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (event.key === 'Escape') leave();
    if (!step) return;
    event.preventDefault();
    const [i, j] = at ? [at[0] + step[0], at[1] + step[1]] : [0, 0];
    point(Math.min(size - 1, Math.max(0, i)), Math.min(size - 1, Math.max(0, j)));
    cell.scrollIntoView({block: 'nearest', inline: 'nearest'});
  });
  for (const swatch of document.querySelectorAll('.swatch')) swatch.style.opacity = strength(Number(swatch.dataset.share));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  window.addEventListener('resize', draw);
  draw();
}
