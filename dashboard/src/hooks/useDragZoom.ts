/** Selecting a stretch of the chart with the mouse: drag, and the range becomes what was selected. */
import { useRef, useState, type PointerEvent, type RefObject } from 'react';
import type { Chart } from '../chart/echarts';

interface Selection {
  left: number;
  width: number;
}

const DRAG_MIN_PX = 6;

export function useDragZoom(chart: RefObject<Chart | null>, onZoom: (from: number, to: number) => void) {
  const start = useRef<number | null>(null);
  const [selection, setSelection] = useState<Selection | null>(null);

  const offset = (event: PointerEvent<HTMLElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.min(box.width, Math.max(0, event.clientX - box.left));
  };
  const timeAt = (x: number) => Number(chart.current?.convertFromPixel({ xAxisIndex: 0 }, x));

  const handlers = {
    onPointerDown: (event: PointerEvent<HTMLElement>) => {
      if (event.pointerType === 'mouse' && event.button === 0) start.current = offset(event);
    },
    onPointerMove: (event: PointerEvent<HTMLElement>) => {
      if (start.current === null) return;
      const end = offset(event);
      const width = Math.abs(end - start.current);
      if (width < DRAG_MIN_PX) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      setSelection({ left: Math.min(start.current, end), width });
    },
    onPointerUp: () => {
      start.current = null;
      if (selection === null) return;
      setSelection(null);
      const from = Math.floor(timeAt(selection.left));
      const to = Math.ceil(timeAt(selection.left + selection.width));
      if (to - from >= 1000) onZoom(from, to);
    },
  };
  return { selection, handlers };
}
