/** Run, cancel, examples and history. */
import { Button, Kbd, Menu } from '@mantine/core';
import type { Example } from '../sql/examples';
import { ChevronIcon, ClockIcon, PlayIcon, StopIcon } from './icons';
import classes from './Sql.module.css';

interface SqlBarProps {
  isRunning: boolean;
  examples: Example[];
  history: string[];
  onRun: () => void;
  onCancel: () => void;
  onPick: (sql: string) => void;
}

const HISTORY_SHOWN = 15;

export function SqlBar({ isRunning, examples, history, onRun, onCancel, onPick }: SqlBarProps) {
  return (
    <div className={classes['bar']}>
      {isRunning ? (
        <Button size="compact-sm" color="red" variant="light" leftSection={<StopIcon size={12} />} onClick={onCancel}>
          Cancel
        </Button>
      ) : (
        <Button size="compact-sm" leftSection={<PlayIcon size={12} />} onClick={onRun} data-testid="sql-run">
          Run
        </Button>
      )}
      <span className={classes['keys']}><Kbd size="xs">Ctrl</Kbd> <Kbd size="xs">Enter</Kbd></span>
      <span className={classes['spread']} />
      <Menu shadow="md" position="bottom-end" width={290}>
        <Menu.Target>
          <Button size="compact-sm" variant="default" rightSection={<ChevronIcon size={12} />}>Examples</Button>
        </Menu.Target>
        <Menu.Dropdown>
          {examples.map(({ title, sql }) => (
            <Menu.Item key={title} onClick={() => onPick(sql)}>{title}</Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
      <Menu shadow="md" position="bottom-end" width="min(460px, calc(100vw - 24px))">
        <Menu.Target>
          <Button
            size="compact-sm" variant="default" leftSection={<ClockIcon size={14} />} disabled={history.length === 0}
          >
            History
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          {history.slice(0, HISTORY_SHOWN).map((sql) => (
            <Menu.Item key={sql} onClick={() => onPick(sql)} className={classes['past']}>{sql}</Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}
