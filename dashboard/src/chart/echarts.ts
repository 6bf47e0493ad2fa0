/** The parts of ECharts that the page draws with, and no others. */
import { LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, TooltipComponent } from 'echarts/components';
import { init, use, type EChartsType } from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';

use([LineChart, ScatterChart, GridComponent, TooltipComponent, CanvasRenderer]);

export type Chart = EChartsType;

export function openChart(element: HTMLElement): Chart {
  return init(element, null, { renderer: 'canvas' });
}
