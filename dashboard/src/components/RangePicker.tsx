/** The time range: the usual spans up to now, or bounds of one's own. */
import { Button, Popover, SegmentedControl, Stack, TextInput } from '@mantine/core';
import { useState } from 'react';
import { formatTime, toLocalField } from '../chart/format';
import { SPANS, windowOf, type Span, type TimeRange } from '../chart/granularity';
import { connection } from '../live/browser';

interface RangePickerProps {
  range: TimeRange;
  onRange: (range: TimeRange) => void;
}

interface BoundsFormProps extends RangePickerProps {
  onDone: () => void;
}

function BoundsForm({ range, onRange, onDone }: BoundsFormProps) {
  const [lower, upper] = windowOf(range, connection.now());
  const [from, setFrom] = useState(toLocalField(lower));
  const [to, setTo] = useState(toLocalField(upper));
  const bounds = { from: Date.parse(from), to: Date.parse(to) };
  const isValid = bounds.from < bounds.to;
  const apply = () => {
    onRange({ kind: 'custom', ...bounds });
    onDone();
  };
  const field = { type: 'datetime-local', step: 1, size: 'xs' } as const;
  return (
    <Stack gap="xs" component="form" onSubmit={(event) => { event.preventDefault(); if (isValid) apply(); }}>
      <TextInput {...field} label="From" value={from} onChange={(event) => setFrom(event.currentTarget.value)} />
      <TextInput
        {...field} label="To (exclusive)" value={to} onChange={(event) => setTo(event.currentTarget.value)}
        error={isValid ? null : 'must be after the beginning'}
      />
      <Button type="submit" size="xs" disabled={!isValid}>Show</Button>
    </Stack>
  );
}

export function RangePicker({ range, onRange }: RangePickerProps) {
  const [isOpen, setOpen] = useState(false);
  const isCustom = range.kind === 'custom';
  return (
    <>
      <SegmentedControl
        size="xs" aria-label="Time range" data-testid="range" value={isCustom ? '' : range.span}
        data={SPANS.map((span) => ({ value: span, label: span.replace('m', ' m').replace('h', ' h').replace('d', ' d') }))}
        onChange={(span) => span && onRange({ kind: 'relative', span: span as Span })}
      />
      <Popover opened={isOpen} onChange={setOpen} position="bottom-end" shadow="md" trapFocus>
        <Popover.Target>
          <Button
            size="xs" variant={isCustom ? 'light' : 'default'} onClick={() => setOpen(!isOpen)} data-testid="range-custom"
            title={isCustom ? `${formatTime(range.from)} to ${formatTime(range.to)}` : 'Choose the bounds'}
          >
            {isCustom ? shortBounds(range.from, range.to) : 'Custom'}
          </Button>
        </Popover.Target>
        <Popover.Dropdown>
          {isOpen && <BoundsForm range={range} onRange={onRange} onDone={() => setOpen(false)} />}
        </Popover.Dropdown>
      </Popover>
    </>
  );
}

/** `05-01 10:00 – 11:30`, with the second day only where it differs. */
function shortBounds(from: number, to: number): string {
  const [start, end] = [formatTime(from), formatTime(to)];
  const isSameDay = start.slice(0, 10) === end.slice(0, 10);
  return `${start.slice(5, 16)} – ${end.slice(isSameDay ? 11 : 5, 16)}`;
}
