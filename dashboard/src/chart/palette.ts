/** Colours that ECharts needs as values: CSS variables do not reach a canvas. */

export interface Palette {
  text: string;
  grid: string;
  axis: string;
  accent: string;
  band: string;
  panel: string;
  border: string;
  lines: string[];
}

const LIGHT_LINES = [
  '#0d9488', '#2563eb', '#d97706', '#db2777', '#7c3aed', '#16a34a', '#dc2626', '#0891b2', '#a16207', '#4f46e5',
  '#5eaaa8', '#7ba4f4', '#e8a860', '#e88bb4', '#ac8bf0', '#7cc394', '#ea8a8a', '#67b7cd', '#c1a25c', '#928df0',
];
const DARK_LINES = [
  '#2dd4bf', '#60a5fa', '#fbbf24', '#f472b6', '#a78bfa', '#4ade80', '#f87171', '#22d3ee', '#facc15', '#818cf8',
  '#14877a', '#2f67b8', '#b07d10', '#b0407c', '#6d55b5', '#2b9350', '#b64545', '#13869a', '#a88a0c', '#4f56a8',
];

export function paletteOf(scheme: 'light' | 'dark'): Palette {
  const isDark = scheme === 'dark';
  return {
    text: isDark ? '#93a1b3' : '#5b6675',
    grid: isDark ? 'rgba(148,163,184,0.10)' : 'rgba(15,23,42,0.07)',
    axis: isDark ? 'rgba(148,163,184,0.25)' : 'rgba(15,23,42,0.18)',
    accent: isDark ? '#2dd4bf' : '#0d9488',
    band: isDark ? 'rgba(45,212,191,0.16)' : 'rgba(13,148,136,0.14)',
    panel: isDark ? '#151d28' : '#ffffff',
    border: isDark ? '#2a3646' : '#dbe1e8',
    lines: isDark ? DARK_LINES : LIGHT_LINES,
  };
}

/** The colour of the line at `index` of the drawn series; a single line takes the accent. */
export function lineColour(palette: Palette, index: number, total: number): string {
  return total === 1 ? palette.accent : (palette.lines[index % palette.lines.length] ?? palette.accent);
}
