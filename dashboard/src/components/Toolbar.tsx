/** What is looked at: range, bucket size, figure, and the dimension to group by. */
import { Select } from '@mantine/core';
import { GRANULARITIES, isTooFine, rangeMs, type Granularity } from '../chart/granularity';
import type { Aggregation } from '../api/types';
import type { UpdateState } from '../hooks/useUrlState';
import { AGGREGATIONS, type PageState } from '../state/url';
import { RangePicker } from './RangePicker';
import classes from './Explore.module.css';

const FIGURES: Record<Aggregation, string> = {
  avg: 'Average', sum: 'Sum', min: 'Minimum', max: 'Maximum', count: 'Count',
};

interface ToolbarProps {
  state: PageState;
  update: UpdateState;
  /** The bucket size that `auto` stands for now. */
  automatic: string;
  dimensions: string[];
}

export function Toolbar({ state, update, automatic, dimensions }: ToolbarProps) {
  const span = rangeMs(state.range);
  const chosen = isTooFine(state.granularity, span) ? 'auto' : state.granularity;
  const steps = GRANULARITIES.map((step) => ({
    value: step,
    label: step === 'auto' ? `Auto (${automatic})` : step,
    disabled: isTooFine(step, span),
  }));
  const groups = [...new Set([...dimensions, ...(state.group ? [state.group] : [])])].sort();
  const select = { size: 'xs', allowDeselect: false, comboboxProps: { shadow: 'md' } } as const;
  return (
    <div className={classes['toolbar']} role="group" aria-label="View">
      <RangePicker range={state.range} onRange={(range) => update({ range })} />
      <Select
        {...select} w={108} aria-label="Granularity" data={steps} value={chosen} data-testid="granularity"
        onChange={(step) => step && update({ granularity: step as Granularity }, 'replace')}
      />
      <Select
        {...select} w={104} aria-label="Figure" value={state.shown} data-testid="figure"
        data={AGGREGATIONS.map((value) => ({ value, label: FIGURES[value] }))}
        onChange={(shown) => shown && update({ shown: shown as Aggregation }, 'replace')}
      />
      <Select
        {...select} w={140} aria-label="Group by" placeholder="Group by" clearable allowDeselect value={state.group}
        data={groups} disabled={groups.length === 0} data-testid="group" onChange={(group) => update({ group })}
      />
    </div>
  );
}
