/** Colours, type and density of the page. Everything is on this machine: system fonts, no downloads. */
import { Button, createTheme, type CSSVariablesResolver, type MantineColorsTuple } from '@mantine/core';

const river: MantineColorsTuple = [
  '#effcf9', '#d3f6ef', '#a6ecdf', '#6fdccb', '#3cc6b4', '#1fae9d', '#0f8f82', '#0d7a70', '#0d625b', '#0b4a45',
];
const ink: MantineColorsTuple = [
  '#d7dee8', '#b4bfcd', '#93a1b3', '#66758a', '#3a4757', '#2a3646', '#1d2733', '#151d28', '#0e141c', '#0a0f15',
];

export const theme = createTheme({
  primaryColor: 'river',
  primaryShade: 7,
  autoContrast: true,
  colors: { river, dark: ink },
  fontFamily: 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSizes: { xs: '11.5px', sm: '13px', md: '14px', lg: '16px', xl: '20px' },
  defaultRadius: 'sm',
  cursorType: 'pointer',
  components: {
    Button: Button.extend({ styles: { label: { fontWeight: 500 } } }),
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-body': '#f4f6f8',
    '--mantine-color-dimmed': '#5b6675',
    '--mantine-color-placeholder': '#66727f',
    '--sg-panel': '#ffffff',
    '--sg-sunken': '#f8fafb',
    '--sg-border': '#dfe4ea',
    '--sg-hover': '#f0f3f6',
    '--sg-accent': '#0d7a70',
    '--sg-selected': '#e3f4f1',
    '--sg-good': '#15803d',
    '--sg-warn': '#b45309',
    '--sg-bad': '#c81e1e',
    '--sg-sql-keyword': '#7c3aed',
    '--sg-sql-string': '#0d7a70',
    '--sg-sql-number': '#b45309',
    '--sg-sql-type': '#1d4ed8',
  },
  dark: {
    '--mantine-color-body': '#0e141c',
    '--mantine-color-dimmed': '#93a1b3',
    '--mantine-color-placeholder': '#8494a8',
    '--sg-panel': '#151d28',
    '--sg-sunken': '#111822',
    '--sg-border': '#243040',
    '--sg-hover': '#1b2532',
    '--sg-accent': '#3cc6b4',
    '--sg-selected': '#143330',
    '--sg-good': '#4ade80',
    '--sg-warn': '#fbbf24',
    '--sg-bad': '#f87171',
    '--sg-sql-keyword': '#b79bff',
    '--sg-sql-string': '#6fdccb',
    '--sg-sql-number': '#fbbf24',
    '--sg-sql-type': '#7fb2ff',
  },
});
