// Lines over two logarithmic axes as SVG, readable on light and dark pages.

export interface Line {
  readonly title: string;
  /** By x; both above 0. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly lines: readonly Line[];
}

const WIDTH = 760;
const HEIGHT = 400;
const MARGIN = { top: 40, right: 230, bottom: 50, left: 80 };
/** Told apart without colour vision as well; every line is named at its end. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7'];
const TITLE_PITCH = 16;

/** An empty frame when there are no points. */
export function plotLogLog({ title, x, y, lines }: Plot): string {
  const points = lines.flatMap((line) => line.points);
  const xs = decades(points.map((point) => point.x));
  const ys = decades(points.map((point) => point.y));
  const xOf = scale(xs, MARGIN.left, WIDTH - MARGIN.right);
  const yOf = scale(ys, HEIGHT - MARGIN.bottom, MARGIN.top);
  const text = (at: number, top: number, anchor: string, words: string, fill = '#808080'): string =>
    `<text x="${at.toFixed(1)}" y="${top.toFixed(1)}" text-anchor="${anchor}" fill="${fill}">${words}</text>`;
  const rule = (x1: number, y1: number, x2: number, y2: number): string =>
    `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="#808080" stroke-opacity="0.35"/>`;
  const frame = [
    ...xs.flatMap((at) => [
      rule(xOf(at), MARGIN.top, xOf(at), HEIGHT - MARGIN.bottom),
      text(xOf(at), HEIGHT - MARGIN.bottom + 18, 'middle', grouped(at)),
    ]),
    ...ys.flatMap((at) => [
      rule(MARGIN.left, yOf(at), WIDTH - MARGIN.right, yOf(at)),
      text(MARGIN.left - 8, yOf(at) + 4, 'end', grouped(at)),
    ]),
    text(MARGIN.left, MARGIN.top - 18, 'start', title),
    text((MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 10, 'middle', x),
    text(MARGIN.left - 8, MARGIN.top - 18, 'end', y),
  ];
  const drawn = lines.filter((line) => line.points.length > 0);
  const titleTops = apart(drawn.map((line) => yOf(line.points.at(-1)?.y ?? 1)));
  const curves = drawn.flatMap((line, i) => {
    const colour = COLOURS[i % COLOURS.length] as string;
    const places = line.points.map((point) => ({ left: xOf(point.x), top: yOf(point.y) }));
    return [
      `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${places.map(({ left, top }) => `${left.toFixed(1)},${top.toFixed(1)}`).join(' ')}"/>`,
      ...places.map(({ left, top }) => `<circle cx="${left.toFixed(1)}" cy="${top.toFixed(1)}" r="3" fill="${colour}"/>`),
      text(WIDTH - MARGIN.right + 12, (titleTops[i] as number) + 4, 'start', line.title, colour),
    ];
  });
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="13"><title>${title}</title>`;
  return `${[head, ...frame, ...curves, '</svg>'].join('\n')}\n`;
}

/** Powers of ten that enclose the values, two at least. */
function decades(values: readonly number[]): number[] {
  const from = Math.floor(Math.log10(Math.min(...values, Number.MAX_VALUE)));
  if (values.length === 0) return [1, 10];
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(...values))));
  return Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
}

function scale(ticks: readonly number[], from: number, to: number): (value: number) => number {
  const first = Math.log10(ticks[0] as number);
  const last = Math.log10(ticks.at(-1) as number);
  return (value) => from + ((Math.log10(value) - first) / (last - first)) * (to - from);
}

/** The same order, no two closer than a line of text. */
function apart(tops: readonly number[]): number[] {
  const moved = [...tops];
  let least = Number.NEGATIVE_INFINITY;
  for (const i of tops.map((_, place) => place).sort((a, b) => (tops[a] as number) - (tops[b] as number))) {
    least = Math.max(tops[i] as number, least + TITLE_PITCH);
    moved[i] = least;
  }
  return moved;
}

function grouped(value: number): string {
  return `${value}`.replace(/\B(?=(\d{3})+$)/g, ' ');
}
